-- Caches of the fold, so that a reader need not fold. They can be dropped at any time and are made anew from the events;
-- they are made anew when view_version is not the program's.
DROP TABLE IF EXISTS view_version;
DROP TABLE IF EXISTS overview;
DROP TABLE IF EXISTS stories;
DROP TABLE IF EXISTS facts;
DROP TABLE IF EXISTS transitions;
DROP TABLE IF EXISTS spend;
DROP TABLE IF EXISTS evidence;

CREATE TABLE view_version (version INTEGER NOT NULL) STRICT;

-- One row: the run, the target, totals.
CREATE TABLE overview (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL) STRICT;

-- What lists show, lying in the order in which lists show it.
CREATE TABLE stories (
    ordinal     INTEGER NOT NULL,
    id          TEXT NOT NULL UNIQUE,
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
    PRIMARY KEY (ordinal, id)
) STRICT, WITHOUT ROWID;

-- All facts of a story as JSON. A table of its own: a list of all stories must not read through them.
CREATE TABLE facts (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;

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
