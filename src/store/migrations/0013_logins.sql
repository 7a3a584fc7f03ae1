-- Who is logged in: one row for each token that counts. `jti` names the token, `kid` the key that signed it. Times are
-- service time.
CREATE TABLE logins (
    tenant   TEXT    NOT NULL,
    jti      TEXT    NOT NULL,
    pubkey   TEXT    NOT NULL,
    audience TEXT    NOT NULL,
    kid      TEXT    NOT NULL,
    began_ms INTEGER NOT NULL,
    ends_ms  INTEGER NOT NULL,
    PRIMARY KEY (tenant, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_pubkey ON logins (tenant, pubkey);
