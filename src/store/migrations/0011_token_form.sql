-- The form that a guest wants its tokens in (NUT-00).
ALTER TABLE requests ADD COLUMN form TEXT NOT NULL DEFAULT 'cashuB';
