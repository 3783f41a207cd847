-- What happened in a thread besides its log, for people: turns, model calls, how it came and went. Written late and at best.
CREATE TABLE traces (
    tenant    TEXT    NOT NULL,
    thread_id BLOB    NOT NULL,
    number    INTEGER NOT NULL,
    turn_id   BLOB,
    at_ms     INTEGER NOT NULL,
    payload   TEXT    NOT NULL,
    PRIMARY KEY (tenant, thread_id, number),
    FOREIGN KEY (tenant, thread_id) REFERENCES threads (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('traces', 'traces', '10000000 50000 100 1');
