-- A person asks for the threads of the directory that they are in, which may be few among very many.
CREATE INDEX threads_by_place_and_start ON threads (tenant, archived, cwd, created_at_ms, id);
CREATE INDEX threads_by_place_and_growth ON threads (tenant, archived, cwd, updated_at_ms, id);

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('threads', 'threads_by_place_and_start', '100000 500 400 20 2 1'),
    ('threads', 'threads_by_place_and_growth', '100000 500 400 20 2 1');
