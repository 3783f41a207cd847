-- The number marks a file as a thread store ("TGAT").
PRAGMA application_id = 1413955924;

-- Small on purpose: every append rewrites its thread's row.
CREATE TABLE threads (
    tenant         TEXT    NOT NULL,
    id             BLOB    NOT NULL,
    session_id     BLOB    NOT NULL,
    parent_id      BLOB,
    forked_from_id BLOB,
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    name           TEXT,
    preview        TEXT    NOT NULL,
    -- Name and preview, folded: what a search looks at.
    search_text    TEXT    NOT NULL,
    archived       INTEGER NOT NULL,
    originator     TEXT    NOT NULL,
    client_version TEXT    NOT NULL,
    source         TEXT    NOT NULL,
    thread_source  TEXT,
    provider       TEXT    NOT NULL,
    -- A copy out of the settings, to filter by.
    cwd            TEXT    NOT NULL,
    owner          BLOB    NOT NULL,
    epoch          INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX threads_by_start ON threads (tenant, archived, created_at_ms, id);
CREATE INDEX threads_by_growth ON threads (tenant, archived, updated_at_ms, id);

-- Apart from `threads` because they can be long and appends do not touch them.
CREATE TABLE thread_settings (
    tenant    TEXT NOT NULL,
    thread_id BLOB NOT NULL,
    settings  TEXT NOT NULL,
    PRIMARY KEY (tenant, thread_id),
    FOREIGN KEY (tenant, thread_id) REFERENCES threads (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
    tenant    TEXT    NOT NULL,
    thread_id BLOB    NOT NULL,
    sequence  INTEGER NOT NULL,
    turn_id   BLOB    NOT NULL,
    kind      TEXT    NOT NULL,
    -- Of a user message that has one.
    client_id TEXT,
    at_ms     INTEGER NOT NULL,
    payload   TEXT    NOT NULL,
    PRIMARY KEY (tenant, thread_id, sequence),
    FOREIGN KEY (tenant, thread_id) REFERENCES threads (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX entries_client_id ON entries (tenant, thread_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX entries_turn_starts ON entries (tenant, thread_id, sequence) WHERE kind = 'turn_started';
CREATE INDEX entries_by_turn ON entries (tenant, thread_id, turn_id, sequence) WHERE kind <> 'model_item';

-- What a store looks like, for the query planner: tenants have hundreds of threads, a thread has a thousand entries, a turn
-- a few of them. Without this it walks whole logs instead of using the last two indexes. Each row says how many rows the
-- index has, then how many share its first column, its first two, and so on.
ANALYZE;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('threads', 'threads', '100000 500 1'),
    ('threads', 'threads_by_start', '100000 500 400 2 1'),
    ('threads', 'threads_by_growth', '100000 500 400 2 1'),
    ('thread_settings', 'thread_settings', '100000 500 1'),
    ('entries', 'entries', '100000000 500000 1000 1'),
    ('entries', 'entries_client_id', '5000000 25000 50 1'),
    ('entries', 'entries_turn_starts', '5000000 25000 50 1'),
    ('entries', 'entries_by_turn', '50000000 250000 500 10 1');
