-- What programs that know Sphinx Tribes' interface are handed: codes that nobody was given yet, sealed. `is_bots`: an invite of
-- the Sphinx bot, else the code of the invite with this id. `made_at` is wall time.
CREATE TABLE unused_codes (
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    sealed  TEXT    NOT NULL,
    is_bots INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- Their tokens that have verified something, by a hash, until the token itself is too old.
CREATE TABLE spent_tokens (
    tenant  TEXT    NOT NULL,
    token   TEXT    NOT NULL,
    ends_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, token)
) STRICT, WITHOUT ROWID;
