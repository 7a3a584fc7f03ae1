-- A part keeps its outputs in its row, in the form in which an operation does: a line 'keyset counter amount,amount'
-- for each set, the newest last. Those of a guest's token that is here are needed no more.
ALTER TABLE parts ADD COLUMN outputs TEXT NOT NULL DEFAULT '';
UPDATE parts SET outputs =
    (SELECT group_concat(keyset || ' ' || counter || ' ' || amounts || char(10), '' ORDER BY id) FROM claims
     WHERE part = parts.id)
WHERE id IN (SELECT part FROM claims) AND (state != 'claimed' OR ((token IS NOT NULL OR sealed IS NOT NULL)
    AND (SELECT owner FROM requests WHERE id = request) = 'house'));

-- Of a sale that an older version has left as a request, the outputs tell the keyset.
UPDATE grants SET keyset = made.keyset FROM
    (SELECT p.request || '/' || p.position AS reference, MAX(k.id) AS keyset FROM parts p
     JOIN claims c ON c.part = p.id JOIN wallet_keysets k ON k.mint = p.mint AND k.keyset = c.keyset
     WHERE p.state = 'claimed' GROUP BY p.id) made
WHERE grants.reference = made.reference AND grants.keyset IS NULL;

DROP TABLE claims;
