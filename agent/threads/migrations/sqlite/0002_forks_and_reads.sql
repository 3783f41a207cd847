-- The earliest turn that ended since the thread was last read. NULL: there is none. Sixteen zero bytes: marked unread by hand.
ALTER TABLE threads ADD COLUMN first_unread BLOB;
-- Grows with everything that can change what is unread.
ALTER TABLE threads ADD COLUMN read_revision INTEGER NOT NULL DEFAULT 0;

-- What clients keep with a thread and the service does not use.
ALTER TABLE thread_settings ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
