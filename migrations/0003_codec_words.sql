-- Codecs and roles have the words of docs/spec/v1.md here too.

UPDATE blobs
SET codec = CASE codec WHEN 'planes' THEN 'plain' WHEN 'exponents' THEN 'exp' ELSE 'delta' END
WHERE codec IN ('planes', 'exponents', 'conditioned');

COMMENT ON COLUMN blobs.codec IS 'Codec it is stored with: raw, plain, xor, exp, delta, derived, or a number.';
COMMENT ON COLUMN tensors.codec IS 'Codec of that representation: raw, plain, xor, exp, delta, derived, or a number.';
COMMENT ON COLUMN edges.role IS 'What the parent was for: base, previous, delta, source, input, init, or free text.';
COMMENT ON COLUMN lineage.role IS 'What the parent was for: base, previous, delta, source, input, init, or free text.';
