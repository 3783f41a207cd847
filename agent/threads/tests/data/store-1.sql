-- A store as the first version of the schema left it: two threads over gRPC, one of them with a failed turn, and one of a
-- terminal, whose process was killed in the middle of the second turn.
PRAGMA application_id = 1413955924;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'threads','2026-11-20 22:39:35',1,X'71F88A3DE424604C32EE1A86952826F1B64AFE88D15970AD49B8C8B45E70B9EC2C2A8E77D8BFA7E7EA3A06F4D9FF0977',681857);
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
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',1,X'01A1FB1D84E17079857F7FEC882A51CA','turn_started',NULL,1795214378209,'{"turn_started":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","settings":{"model":"rehearsal","cwd":"/project"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',2,X'01A1FB1D84E17079857F7FEC882A51CA','item',NULL,1795214378209,'{"item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","item":{"type":"user_message","id":"01a1fb1d-84e1-7079-857f-7febb94c19c9","content":[{"type":"text","text":"hello"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',3,X'01A1FB1D84E17079857F7FEC882A51CA','model_item',NULL,1795214378209,'{"model_item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","json":{"type":"message","role":"user","content":[{"type":"input_text","text":"hello"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',4,X'01A1FB1D84E17079857F7FEC882A51CA','item',NULL,1795214378400,'{"item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","item":{"type":"reasoning","id":"rs_5904a0008d98d65db7f5939c404c5c97","summary":["**Reading the request**\n\nThe input has 2 items and ends with “hello”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',5,X'01A1FB1D84E17079857F7FEC882A51CA','item',NULL,1795214378667,'{"item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","item":{"type":"agent_message","id":"msg_8f6979f06ff8b4d37e1b5d99a5688f83","text":"This is a rehearsal, and you said: “hello”. That is one word. The words are made up from your request, so the same request gets the same answer. A real model would now read files and propose a change; the rehearsal only talks."}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',6,X'01A1FB1D84E17079857F7FEC882A51CA','model_item',NULL,1795214378667,'{"model_item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","json":{"id":"rs_5904a0008d98d65db7f5939c404c5c97","type":"reasoning","summary":[{"type":"summary_text","text":"**Reading the request**\n\nThe input has 2 items and ends with “hello”. There is a script for this, so I follow it and say plainly that I am not a model."}],"encrypted_content":"rehearsal_30090830ade11bc1256616d764cdb52f"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',7,X'01A1FB1D84E17079857F7FEC882A51CA','model_item',NULL,1795214378667,'{"model_item":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","json":{"id":"msg_8f6979f06ff8b4d37e1b5d99a5688f83","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"This is a rehearsal, and you said: “hello”. That is one word. The words are made up from your request, so the same request gets the same answer. A real model would now read files and propose a change; the rehearsal only talks.","annotations":[],"logprobs":[]}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',8,X'01A1FB1D84E17079857F7FEC882A51CA','usage',NULL,1795214378667,'{"usage":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","last":{"input_tokens":348,"cached_input_tokens":0,"output_tokens":123,"reasoning_output_tokens":50,"total_tokens":471},"total":{"input_tokens":348,"cached_input_tokens":0,"output_tokens":123,"reasoning_output_tokens":50,"total_tokens":471}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',9,X'01A1FB1D84E17079857F7FEC882A51CA','turn_ended',NULL,1795214378667,'{"turn_ended":{"turn_id":"01a1fb1d-84e1-7079-857f-7fec882a51ca","end":{"end":"completed"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',1,X'01A1FB1D86B47347BB29936FCB8655A8','turn_started',NULL,1795214378676,'{"turn_started":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","settings":{"model":"rehearsal","cwd":"/project"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',2,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214378676,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"user_message","id":"01a1fb1d-86b4-7347-bb29-936e77d8fd0b","content":[{"type":"text","text":"rehearse: cut"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',3,X'01A1FB1D86B47347BB29936FCB8655A8','model_item',NULL,1795214378676,'{"model_item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","json":{"type":"message","role":"user","content":[{"type":"input_text","text":"rehearse: cut"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',4,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214378875,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',5,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214379428,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',6,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214380145,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',7,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214381207,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',8,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214383226,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',9,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214386604,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"reasoning","id":"rs_eb9d21427a8c9b8a8a9debf129a24b9c","summary":["**Reading the request**\n\nThe input has 2 items and ends with “rehearse: cut”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',10,X'01A1FB1D86B47347BB29936FCB8655A8','model_item',NULL,1795214386744,'{"model_item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","json":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"This is a rehearsal, and you said: “rehearse: cut”. That is 2 words. A real model would now read files and propose a"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',11,X'01A1FB1D86B47347BB29936FCB8655A8','item',NULL,1795214386744,'{"item":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","item":{"type":"agent_message","id":"msg_ef98b9f64069279a2bfbe7102dd4d728","text":"This is a rehearsal, and you said: “rehearse: cut”. That is 2 words. A real model would now read files and propose a"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',12,X'01A1FB1D86B47347BB29936FCB8655A8','turn_ended',NULL,1795214386744,'{"turn_ended":{"turn_id":"01a1fb1d-86b4-7347-bb29-936fcb8655a8","end":{"end":"failed","error":{"kind":"stream_disconnected","reason":"upstream_disconnected","message":"upstream closed the stream before its end: the rehearsal was cut, as asked"}}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',1,X'01A1FB1DF3A2729A99369D1181909E6A','turn_started',NULL,1795214406562,'{"turn_started":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","settings":{"model":"rehearsal","cwd":"/project","effort":"high","approval_policy":"never","sandbox":{"type":"workspaceWrite","writableRoots":[],"networkAccess":false,"excludeTmpdirEnvVar":false,"excludeSlashTmp":false}}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',2,X'01A1FB1DF3A2729A99369D1181909E6A','item','message-1',1795214406562,'{"item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","item":{"type":"user_message","id":"01a1fb1d-f3a2-729a-9936-9d104195782a","client_id":"message-1","content":[{"type":"text","text":"remember the tide"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',3,X'01A1FB1DF3A2729A99369D1181909E6A','model_item',NULL,1795214406562,'{"model_item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","json":{"type":"message","role":"user","content":[{"type":"input_text","text":"remember the tide"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',4,X'01A1FB1DF3A2729A99369D1181909E6A','item',NULL,1795214406767,'{"item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","item":{"type":"reasoning","id":"rs_13ed8c3ce59d911ac28bcfd407677eac","summary":["**Reading the request**\n\nThe input has 2 items and ends with “remember the tide”. There is a script for this, so I follow it and say plainly that I am not a model."],"content":[]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',5,X'01A1FB1DF3A2729A99369D1181909E6A','item',NULL,1795214407051,'{"item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","item":{"type":"agent_message","id":"msg_6b2ab1799080f22a107da596cd2f54f8","text":"This is a rehearsal, and you said: “remember the tide”. That is 3 words. A real model would now read files and propose a change; the rehearsal only talks. The stream has the shape of a real one: reasoning first, then the message, then the usage."}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',6,X'01A1FB1DF3A2729A99369D1181909E6A','model_item',NULL,1795214407051,'{"model_item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","json":{"id":"rs_13ed8c3ce59d911ac28bcfd407677eac","type":"reasoning","summary":[{"type":"summary_text","text":"**Reading the request**\n\nThe input has 2 items and ends with “remember the tide”. There is a script for this, so I follow it and say plainly that I am not a model."}],"encrypted_content":"rehearsal_d36dcf0e647058847a7f43d98196a138"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',7,X'01A1FB1DF3A2729A99369D1181909E6A','model_item',NULL,1795214407051,'{"model_item":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","json":{"id":"msg_6b2ab1799080f22a107da596cd2f54f8","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"This is a rehearsal, and you said: “remember the tide”. That is 3 words. A real model would now read files and propose a change; the rehearsal only talks. The stream has the shape of a real one: reasoning first, then the message, then the usage.","annotations":[],"logprobs":[]}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',8,X'01A1FB1DF3A2729A99369D1181909E6A','usage',NULL,1795214407051,'{"usage":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","last":{"input_tokens":359,"cached_input_tokens":0,"output_tokens":131,"reasoning_output_tokens":53,"total_tokens":490},"total":{"input_tokens":359,"cached_input_tokens":0,"output_tokens":131,"reasoning_output_tokens":53,"total_tokens":490}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',9,X'01A1FB1DF3A2729A99369D1181909E6A','turn_ended',NULL,1795214407051,'{"turn_ended":{"turn_id":"01a1fb1d-f3a2-729a-9936-9d1181909e6a","end":{"end":"completed"}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',10,X'01A1FB1DFB7576D29DF319BCE83C3C57','turn_started',NULL,1795214408566,'{"turn_started":{"turn_id":"01a1fb1d-fb75-76d2-9df3-19bce83c3c57","settings":{"model":"rehearsal","cwd":"/project","effort":"high","approval_policy":"never","sandbox":{"type":"workspaceWrite","writableRoots":[],"networkAccess":false,"excludeTmpdirEnvVar":false,"excludeSlashTmp":false}}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',11,X'01A1FB1DFB7576D29DF319BCE83C3C57','item','message-2',1795214408566,'{"item":{"turn_id":"01a1fb1d-fb75-76d2-9df3-19bce83c3c57","item":{"type":"user_message","id":"01a1fb1d-fb75-76d2-9df3-19bb773f70c0","client_id":"message-2","content":[{"type":"text","text":"rehearse: slow"}]}}}');
INSERT INTO "entries" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',12,X'01A1FB1DFB7576D29DF319BCE83C3C57','model_item',NULL,1795214408566,'{"model_item":{"turn_id":"01a1fb1d-fb75-76d2-9df3-19bce83c3c57","json":{"type":"message","role":"user","content":[{"type":"input_text","text":"rehearse: slow"}]}}}');
ANALYZE "sqlite_master";
INSERT INTO "sqlite_stat1" VALUES('threads','threads','100000 500 1');
INSERT INTO "sqlite_stat1" VALUES('threads','threads_by_start','100000 500 400 2 1');
INSERT INTO "sqlite_stat1" VALUES('threads','threads_by_growth','100000 500 400 2 1');
INSERT INTO "sqlite_stat1" VALUES('thread_settings','thread_settings','100000 500 1');
INSERT INTO "sqlite_stat1" VALUES('entries','entries','100000000 500000 1000 1');
INSERT INTO "sqlite_stat1" VALUES('entries','entries_client_id','5000000 25000 50 1');
INSERT INTO "sqlite_stat1" VALUES('entries','entries_turn_starts','5000000 25000 50 1');
INSERT INTO "sqlite_stat1" VALUES('entries','entries_by_turn','50000000 250000 500 10 1');
CREATE TABLE thread_settings (
    tenant    TEXT NOT NULL,
    thread_id BLOB NOT NULL,
    settings  TEXT NOT NULL,
    PRIMARY KEY (tenant, thread_id),
    FOREIGN KEY (tenant, thread_id) REFERENCES threads (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
INSERT INTO "thread_settings" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7','{"model":"rehearsal","cwd":"/project"}');
INSERT INTO "thread_settings" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4','{"model":"rehearsal","cwd":"/project"}');
INSERT INTO "thread_settings" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5','{"model":"rehearsal","cwd":"/project","effort":"high","approval_policy":"never","sandbox":{"type":"workspaceWrite","writableRoots":[],"networkAccess":false,"excludeTmpdirEnvVar":false,"excludeSlashTmp":false}}');
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
INSERT INTO "threads" VALUES('local',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',X'01A1FB1D84E073CB9A9BFA3413D7A2F7',NULL,NULL,1795214378208,1795214378667,NULL,'hello','
hello',0,'tonic/0.14.9','','appServer',NULL,'rehearsal','/project',X'01A1FB1D795F70DBB71273AD447332FA',1,9);
INSERT INTO "threads" VALUES('local',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',X'01A1FB1D86B370B8A3F9E60F1B0D3AA4',NULL,NULL,1795214378675,1795214386744,NULL,'rehearse: cut','
rehearse: cut',0,'tonic/0.14.9','','appServer',NULL,'rehearsal','/project',X'01A1FB1D795F70DBB71273AD447332FA',1,12);
INSERT INTO "threads" VALUES('local',X'01A1FB1DF3A1718C8690F2FFCAC439D5',X'01A1FB1DF3A1718C8690F2FFCAC439D5',NULL,NULL,1795214406561,1795214408566,'Tides','remember the tide','tides
remember the tide',0,'codex-tui','1','vscode','user','rehearsal','/project',X'01A1FB1D795F70DBB71273AD447332FA',1,12);
CREATE INDEX threads_by_start ON threads (tenant, archived, created_at_ms, id);
CREATE INDEX threads_by_growth ON threads (tenant, archived, updated_at_ms, id);
CREATE UNIQUE INDEX entries_client_id ON entries (tenant, thread_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX entries_turn_starts ON entries (tenant, thread_id, sequence) WHERE kind = 'turn_started';
CREATE INDEX entries_by_turn ON entries (tenant, thread_id, turn_id, sequence) WHERE kind <> 'model_item';
COMMIT;
