-- The truth. Nothing here is ever changed or deleted; what is shown is folded from it (see view.sql).
CREATE TABLE events (
    seq       INTEGER PRIMARY KEY,
    version   INTEGER NOT NULL,
    prev_hash TEXT NOT NULL,
    hash      TEXT NOT NULL,
    at        TEXT NOT NULL,
    run       TEXT,
    story     TEXT,
    kind      TEXT NOT NULL,
    actor     TEXT NOT NULL,
    data      TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_story ON events (story, seq) WHERE story IS NOT NULL;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: they are never changed'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: they are never deleted'); END;

-- Also refuses INSERT OR REPLACE over an event, which fires no delete trigger.
CREATE TRIGGER events_only_at_the_end BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM events)
  OR NEW.prev_hash IS NOT COALESCE(
         (SELECT hash FROM events ORDER BY seq DESC LIMIT 1),
         '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT RAISE(ABORT, 'events are append-only: a new one goes to the end of the chain'); END;
