-- Caches of the fold, so that a reader need not fold. They can be dropped at any time and are made anew from the events;
-- they are made anew when view_version is not the program's.
DROP TABLE IF EXISTS view_version;
DROP TABLE IF EXISTS overview;
DROP TABLE IF EXISTS stories;
DROP TABLE IF EXISTS transitions;
DROP TABLE IF EXISTS spend;
DROP TABLE IF EXISTS evidence;

CREATE TABLE view_version (version INTEGER NOT NULL) STRICT;

-- One row: the run, the target, totals.
CREATE TABLE overview (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL) STRICT;

-- What lists show as columns, and all facts as JSON.
CREATE TABLE stories (
    id          TEXT PRIMARY KEY,
    ordinal     INTEGER NOT NULL,
    title       TEXT NOT NULL,
    epic        TEXT,
    phase       TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    cycle       INTEGER NOT NULL,
    reason      TEXT,
    question    TEXT,
    next        TEXT,
    commit_id   TEXT,
    tree        TEXT,
    base        TEXT,
    changed_seq INTEGER NOT NULL,
    facts       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stories_in_order ON stories (ordinal, id);

-- Which event moved which story from which phase to which.
CREATE TABLE transitions (
    story      TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    from_phase TEXT,
    to_phase   TEXT NOT NULL,
    PRIMARY KEY (story, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE spend (
    story         TEXT NOT NULL,
    role          TEXT NOT NULL,
    model         TEXT NOT NULL,
    model_calls   INTEGER NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    cost_microusd INTEGER NOT NULL,
    wall_ms       INTEGER NOT NULL,
    PRIMARY KEY (story, role, model)
) STRICT, WITHOUT ROWID;

-- Which event rests on which evidence.
CREATE TABLE evidence (
    id    TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    story TEXT,
    what  TEXT NOT NULL,
    PRIMARY KEY (id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_of_story ON evidence (story, seq) WHERE story IS NOT NULL;
