-- The form that a guest wants its tokens in (NUT-00): V3 or V4.
ALTER TABLE requests ADD COLUMN form INTEGER NOT NULL DEFAULT 4;
