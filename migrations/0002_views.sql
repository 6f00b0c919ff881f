-- The read verbs.

CREATE VIEW names AS
SELECT target AS "commit", string_agg(name, ', ' ORDER BY kind, name) AS names
FROM refs WHERE kind IN ('branch', 'tag') GROUP BY target;
COMMENT ON VIEW names IS 'Branches and tags of the commits that have any.';
COMMENT ON COLUMN names."commit" IS 'Id of the commit.';
COMMENT ON COLUMN names.names IS 'Branches, then tags, separated by commas.';

CREATE VIEW log AS
SELECT c."commit", n.names, c.kind, c.task, c.message, c.author,
       CASE WHEN c.time_us BETWEEN -62135596800000000 AND 253402300799999999
            THEN make_timestamp(c.time_us) END AS time,
       c.recipe, c.generation, c.manifest, m.n_tensors, m.n_parameters, m.raw_bytes
FROM commits c JOIN manifests m USING (manifest) LEFT JOIN names n USING ("commit");
COMMENT ON VIEW log IS 'Commits with their names and sizes. Order by time, newest first, for what `dvx log` shows.';
COMMENT ON COLUMN log."commit" IS 'Id of the commit.';
COMMENT ON COLUMN log.names IS 'Its branches and tags, NULL if it has none.';
COMMENT ON COLUMN log.kind IS 'base, finetune, adapter, transfer or merge.';
COMMENT ON COLUMN log.task IS 'Task it was trained for, if said.';
COMMENT ON COLUMN log.message IS 'Commit message.';
COMMENT ON COLUMN log.author IS 'Who committed it.';
COMMENT ON COLUMN log.time IS 'When, in UTC; NULL outside the years 1 to 9999.';
COMMENT ON COLUMN log.recipe IS 'Expression a derived checkpoint was made by.';
COMMENT ON COLUMN log.generation IS '0 without parents, else one more than the largest of its parents.';
COMMENT ON COLUMN log.manifest IS 'Id of its manifest.';
COMMENT ON COLUMN log.n_tensors IS 'Number of tensors.';
COMMENT ON COLUMN log.n_parameters IS 'Number of elements of all tensors.';
COMMENT ON COLUMN log.raw_bytes IS 'Bytes of all files when checked out.';

CREATE VIEW lineage AS
SELECT e.child, cn.names AS child_names, c.kind AS child_kind, e.role,
       e.parent, pn.names AS parent_names, p.kind AS parent_kind, e.position
FROM edges e JOIN commits c ON c."commit" = e.child JOIN commits p ON p."commit" = e.parent
LEFT JOIN names cn ON cn."commit" = e.child LEFT JOIN names pn ON pn."commit" = e.parent;
COMMENT ON VIEW lineage IS 'Edges of history with names: filter by child for parents, by parent for children.';
COMMENT ON COLUMN lineage.child IS 'The commit.';
COMMENT ON COLUMN lineage.child_names IS 'Its branches and tags.';
COMMENT ON COLUMN lineage.child_kind IS 'Its kind.';
COMMENT ON COLUMN lineage.role IS 'What the parent was for: base, previous, delta, source, input, or free text.';
COMMENT ON COLUMN lineage.parent IS 'One of its parents.';
COMMENT ON COLUMN lineage.parent_names IS 'Branches and tags of the parent.';
COMMENT ON COLUMN lineage.parent_kind IS 'Kind of the parent.';
COMMENT ON COLUMN lineage.position IS 'Place among the parents, from 0.';

CREATE VIEW tensors AS
SELECT c."commit", t.name, t.dtype, t.shape, t.raw_bytes, b.stored_bytes, b.codec, s.l2,
       s.changed / nullif(s.elements, 0) AS changed_share, s.base, t.blob
FROM commits c JOIN manifest_tensors t USING (manifest)
LEFT JOIN tensor_stats s ON s.stats = c.stats AND s.name = t.name
LEFT JOIN blobs b ON b.blob = t.blob AND b.preferred;
COMMENT ON VIEW tensors IS 'Tensors of commits: what they are, what they cost, how they differ from the base.';
COMMENT ON COLUMN tensors."commit" IS 'Id of the commit.';
COMMENT ON COLUMN tensors.name IS 'Name of the tensor; PATH::NAME outside the primary files.';
COMMENT ON COLUMN tensors.dtype IS 'Element type, spelt as in safetensors.';
COMMENT ON COLUMN tensors.shape IS 'Shape as JSON, such as [4096,4096].';
COMMENT ON COLUMN tensors.raw_bytes IS 'Bytes of the tensor.';
COMMENT ON COLUMN tensors.stored_bytes IS 'Bytes of its smallest representation; commits that share the blob share them.';
COMMENT ON COLUMN tensors.codec IS 'Representation: raw, planes, xor, exponents, conditioned, derived.';
COMMENT ON COLUMN tensors.l2 IS 'L2 norm of the diff vector against the base; NULL without one.';
COMMENT ON COLUMN tensors.changed_share IS 'Share of elements that differ from the base, 0 to 1.';
COMMENT ON COLUMN tensors.base IS 'Commit compared with.';
COMMENT ON COLUMN tensors.blob IS 'Id of its blob.';

CREATE VIEW files AS
SELECT c."commit", f.path, f.raw_bytes, b.stored_bytes, f.n_tensors, f.executable, f.blob
FROM commits c JOIN manifest_files f USING (manifest) LEFT JOIN blobs b ON b.blob = f.blob AND b.preferred;
COMMENT ON VIEW files IS 'Files of commits.';
COMMENT ON COLUMN files."commit" IS 'Id of the commit.';
COMMENT ON COLUMN files.path IS 'Path of the file.';
COMMENT ON COLUMN files.raw_bytes IS 'Bytes of the file.';
COMMENT ON COLUMN files.stored_bytes IS 'Stored bytes of its blob (of the header alone for a safetensors file).';
COMMENT ON COLUMN files.n_tensors IS 'Number of tensors in a safetensors file, NULL for other files.';
COMMENT ON COLUMN files.executable IS 'True if it is executable.';
COMMENT ON COLUMN files.blob IS 'Id of its blob; of its header for a safetensors file.';

CREATE VIEW manifest_blobs AS
SELECT manifest, blob FROM manifest_tensors UNION SELECT manifest, blob FROM manifest_files;
COMMENT ON VIEW manifest_blobs IS 'Blobs of manifests, each once.';
COMMENT ON COLUMN manifest_blobs.manifest IS 'Id of the manifest.';
COMMENT ON COLUMN manifest_blobs.blob IS 'Id of the blob.';

CREATE VIEW disk_usage AS
WITH owners AS (
    SELECT manifest, count(*) AS n_commits, min("commit") AS one FROM commits GROUP BY manifest
), uses AS (
    SELECT blob, sum(n_commits) AS n_commits FROM manifest_blobs JOIN owners USING (manifest) GROUP BY blob
), per_manifest AS (
    SELECT mb.manifest, count(*) AS n_blobs,
           coalesce(sum(b.stored_bytes) FILTER (u.n_commits = 1), 0)::BIGINT AS unique_bytes,
           coalesce(sum(b.stored_bytes) FILTER (u.n_commits > 1), 0)::BIGINT AS shared_bytes
    FROM manifest_blobs mb JOIN uses u USING (blob) LEFT JOIN blobs b ON b.blob = mb.blob AND b.preferred
    GROUP BY mb.manifest
)
SELECT c."commit", n.names, c.kind, m.raw_bytes, d.unique_bytes, d.shared_bytes, d.n_blobs
FROM commits c JOIN manifests m USING (manifest) LEFT JOIN names n USING ("commit")
JOIN per_manifest d USING (manifest);
COMMENT ON VIEW disk_usage IS 'What each commit costs: stored bytes of blobs only it uses, and of those it shares.';
COMMENT ON COLUMN disk_usage."commit" IS 'Id of the commit.';
COMMENT ON COLUMN disk_usage.names IS 'Its branches and tags.';
COMMENT ON COLUMN disk_usage.kind IS 'Its kind.';
COMMENT ON COLUMN disk_usage.raw_bytes IS 'Bytes of all its files when checked out.';
COMMENT ON COLUMN disk_usage.unique_bytes IS 'Stored bytes of blobs that no other commit uses: a lower bound of what deleting it frees.';
COMMENT ON COLUMN disk_usage.shared_bytes IS 'Stored bytes of blobs that other commits use too.';
COMMENT ON COLUMN disk_usage.n_blobs IS 'Number of distinct blobs.';

CREATE VIEW scoreboard AS
SELECT s.task, s.split, s.samples, s.seed, s.dtype,
       rank() OVER (PARTITION BY s.task_fingerprint, s.split, s.samples, s.seed, s.dtype, s.evaluator
                    ORDER BY s.loss) AS rank,
       s."commit", n.names, s.loss, s.accuracy, s.evaluator, s.task_fingerprint, s.manifest
FROM scores s SEMI JOIN commits c ON c."commit" = s."commit" LEFT JOIN names n ON n."commit" = s."commit";
COMMENT ON VIEW scoreboard IS 'Scores of the commits of this index, ranked by loss within equal conditions.';
COMMENT ON COLUMN scoreboard.task IS 'Name of the task.';
COMMENT ON COLUMN scoreboard.split IS 'Split the samples came from.';
COMMENT ON COLUMN scoreboard.samples IS 'Number of samples.';
COMMENT ON COLUMN scoreboard.seed IS 'Seed the samples were drawn with.';
COMMENT ON COLUMN scoreboard.dtype IS 'Of the parameters while they ran; auto for the checkpoint''s own.';
COMMENT ON COLUMN scoreboard.rank IS '1 for the smallest loss under the same task, split, samples, seed, dtype and evaluator.';
COMMENT ON COLUMN scoreboard."commit" IS 'Commit that was evaluated.';
COMMENT ON COLUMN scoreboard.names IS 'Its branches and tags.';
COMMENT ON COLUMN scoreboard.loss IS 'Mean loss.';
COMMENT ON COLUMN scoreboard.accuracy IS 'Share of correct answers, if the task has answers.';
COMMENT ON COLUMN scoreboard.evaluator IS 'Version of the evaluator.';
COMMENT ON COLUMN scoreboard.task_fingerprint IS 'Id of the task''s content.';
COMMENT ON COLUMN scoreboard.manifest IS 'Manifest that was evaluated.';

CREATE VIEW tasks AS
SELECT r.name, r.target AS task,
       (SELECT count(DISTINCT s."commit") FROM scores s WHERE s.task = r.name) AS n_scored
FROM refs r WHERE r.kind = 'task';
COMMENT ON VIEW tasks IS 'Tasks of the repository.';
COMMENT ON COLUMN tasks.name IS 'Name of the task.';
COMMENT ON COLUMN tasks.task IS 'Id of the task.';
COMMENT ON COLUMN tasks.n_scored IS 'Commits evaluated on a task of this name.';
