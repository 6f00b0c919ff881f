-- Derived from objects and refs; never the truth. Ids are 64 hex digits. No keys and no indexes: the writer
-- keeps rows unique, scans are fast, and bulk loads stay bulk.

CREATE TABLE commits (
    "commit" VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    manifest VARCHAR NOT NULL,
    stats VARCHAR,
    task VARCHAR,
    recipe VARCHAR,
    author VARCHAR NOT NULL,
    message VARCHAR NOT NULL,
    time_us BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
COMMENT ON TABLE commits IS 'Every commit that a branch or a tag reaches.';
COMMENT ON COLUMN commits."commit" IS 'Id of the commit.';
COMMENT ON COLUMN commits.kind IS 'base, finetune, adapter, transfer or merge.';
COMMENT ON COLUMN commits.manifest IS 'Id of its manifest.';
COMMENT ON COLUMN commits.stats IS 'Id of its stats against its base, if any.';
COMMENT ON COLUMN commits.task IS 'Task it was trained for, if said.';
COMMENT ON COLUMN commits.recipe IS 'Expression a derived checkpoint was made by.';
COMMENT ON COLUMN commits.author IS 'Who committed it.';
COMMENT ON COLUMN commits.message IS 'Commit message.';
COMMENT ON COLUMN commits.time_us IS 'Microseconds since 1970-01-01 UTC.';
COMMENT ON COLUMN commits.generation IS '0 without parents, else one more than the largest of its parents.';

CREATE TABLE edges (
    child VARCHAR NOT NULL,
    parent VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    position INTEGER NOT NULL
);
COMMENT ON TABLE edges IS 'Parents of commits.';
COMMENT ON COLUMN edges.child IS 'The commit.';
COMMENT ON COLUMN edges.parent IS 'One of its parents.';
COMMENT ON COLUMN edges.role IS 'What the parent was for: base, previous, delta, source, input, or free text.';
COMMENT ON COLUMN edges.position IS 'Place among the parents, from 0.';

CREATE TABLE metadata (
    "commit" VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    value VARCHAR NOT NULL
);
COMMENT ON TABLE metadata IS 'Metadata of commits.';
COMMENT ON COLUMN metadata."commit" IS 'Id of the commit.';
COMMENT ON COLUMN metadata.key IS 'Key.';
COMMENT ON COLUMN metadata.value IS 'Value.';

CREATE TABLE refs (
    ref VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    target VARCHAR NOT NULL
);
COMMENT ON TABLE refs IS 'The refs this index was derived from.';
COMMENT ON COLUMN refs.ref IS 'Full name, such as refs/heads/llama3.0.';
COMMENT ON COLUMN refs.kind IS 'branch, tag, score, task or other.';
COMMENT ON COLUMN refs.name IS 'Short name, such as llama3.0.';
COMMENT ON COLUMN refs.target IS 'Id of what it names.';

CREATE TABLE manifests (
    manifest VARCHAR NOT NULL,
    raw_bytes BIGINT NOT NULL,
    n_files BIGINT NOT NULL,
    n_tensors BIGINT NOT NULL,
    n_parameters BIGINT NOT NULL
);
COMMENT ON TABLE manifests IS 'Every manifest that a commit here names; commits of equal content share one.';
COMMENT ON COLUMN manifests.manifest IS 'Id of the manifest.';
COMMENT ON COLUMN manifests.raw_bytes IS 'Bytes of all its files when checked out.';
COMMENT ON COLUMN manifests.n_files IS 'Number of files.';
COMMENT ON COLUMN manifests.n_tensors IS 'Number of tensors.';
COMMENT ON COLUMN manifests.n_parameters IS 'Number of elements of all tensors.';

CREATE TABLE manifest_tensors (
    manifest VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    dtype VARCHAR NOT NULL,
    shape VARCHAR NOT NULL,
    raw_bytes BIGINT NOT NULL,
    blob VARCHAR NOT NULL
);
COMMENT ON TABLE manifest_tensors IS 'Tensors of manifests.';
COMMENT ON COLUMN manifest_tensors.manifest IS 'Id of the manifest.';
COMMENT ON COLUMN manifest_tensors.name IS 'Name of the tensor; PATH::NAME outside the primary files.';
COMMENT ON COLUMN manifest_tensors.dtype IS 'Element type, spelt as in safetensors.';
COMMENT ON COLUMN manifest_tensors.shape IS 'Shape as JSON, such as [4096,4096].';
COMMENT ON COLUMN manifest_tensors.raw_bytes IS 'Bytes of the tensor.';
COMMENT ON COLUMN manifest_tensors.blob IS 'Id of its blob.';

CREATE TABLE manifest_files (
    manifest VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    raw_bytes BIGINT NOT NULL,
    blob VARCHAR NOT NULL,
    n_tensors BIGINT,
    executable BOOLEAN NOT NULL
);
COMMENT ON TABLE manifest_files IS 'Files of manifests.';
COMMENT ON COLUMN manifest_files.manifest IS 'Id of the manifest.';
COMMENT ON COLUMN manifest_files.path IS 'Path of the file.';
COMMENT ON COLUMN manifest_files.raw_bytes IS 'Bytes of the file.';
COMMENT ON COLUMN manifest_files.blob IS 'Id of its blob; of its header for a safetensors file.';
COMMENT ON COLUMN manifest_files.n_tensors IS 'Number of tensors in a safetensors file, NULL for other files.';
COMMENT ON COLUMN manifest_files.executable IS 'True if it is executable.';

CREATE TABLE tensor_stats (
    stats VARCHAR NOT NULL,
    base VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    changed BIGINT NOT NULL,
    elements BIGINT NOT NULL,
    l2 DOUBLE
);
COMMENT ON TABLE tensor_stats IS 'How the tensors of commits differ from those of their base.';
COMMENT ON COLUMN tensor_stats.stats IS 'Id of the stats, as in commits.stats.';
COMMENT ON COLUMN tensor_stats.base IS 'Id of the commit compared with.';
COMMENT ON COLUMN tensor_stats.name IS 'Name of the tensor.';
COMMENT ON COLUMN tensor_stats.changed IS 'Elements that differ in any bit.';
COMMENT ON COLUMN tensor_stats.elements IS 'Elements compared.';
COMMENT ON COLUMN tensor_stats.l2 IS 'L2 norm of the diff vector; NULL where it has none.';

CREATE TABLE packs (
    pack VARCHAR NOT NULL,
    n_blobs BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL
);
COMMENT ON TABLE packs IS 'Packs of the repository.';
COMMENT ON COLUMN packs.pack IS 'Id of the pack.';
COMMENT ON COLUMN packs.n_blobs IS 'Number of blobs in it.';
COMMENT ON COLUMN packs.stored_bytes IS 'Bytes of their entries.';

CREATE TABLE blobs (
    blob VARCHAR NOT NULL,
    pack VARCHAR NOT NULL,
    codec VARCHAR NOT NULL,
    base VARCHAR,
    raw_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    preferred BOOLEAN NOT NULL
);
COMMENT ON TABLE blobs IS 'Every representation of every stored blob.';
COMMENT ON COLUMN blobs.blob IS 'Id of the blob.';
COMMENT ON COLUMN blobs.pack IS 'Pack it lies in.';
COMMENT ON COLUMN blobs.codec IS 'Representation: raw, planes, xor, exponents, conditioned, derived, or its number.';
COMMENT ON COLUMN blobs.base IS 'Delta base, if any.';
COMMENT ON COLUMN blobs.raw_bytes IS 'Bytes of the content.';
COMMENT ON COLUMN blobs.stored_bytes IS 'Bytes of the entry in the pack.';
COMMENT ON COLUMN blobs.preferred IS 'True for the smallest representation: one row of every blob.';

CREATE TABLE scores (
    ref VARCHAR NOT NULL,
    score VARCHAR NOT NULL,
    "commit" VARCHAR NOT NULL,
    manifest VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    task_fingerprint VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    samples BIGINT NOT NULL,
    seed BIGINT NOT NULL,
    evaluator BIGINT NOT NULL,
    loss DOUBLE NOT NULL,
    accuracy DOUBLE,
    base VARCHAR,
    dtype VARCHAR NOT NULL
);
COMMENT ON TABLE scores IS 'Evaluation results.';
COMMENT ON COLUMN scores.ref IS 'Ref that names the score.';
COMMENT ON COLUMN scores.score IS 'Id of the score.';
COMMENT ON COLUMN scores."commit" IS 'Commit that was evaluated.';
COMMENT ON COLUMN scores.manifest IS 'Its manifest; any commit that shares it, and the base''s if that took part, has this score.';
COMMENT ON COLUMN scores.task IS 'Name of the task.';
COMMENT ON COLUMN scores.task_fingerprint IS 'Id of the task''s content.';
COMMENT ON COLUMN scores.split IS 'Split the samples came from.';
COMMENT ON COLUMN scores.samples IS 'Number of samples.';
COMMENT ON COLUMN scores.seed IS 'Seed the samples were drawn with.';
COMMENT ON COLUMN scores.evaluator IS 'Version of the evaluator.';
COMMENT ON COLUMN scores.loss IS 'Mean loss.';
COMMENT ON COLUMN scores.accuracy IS 'Share of correct answers, if the task has answers.';
COMMENT ON COLUMN scores.base IS 'Manifest of the base, if its weights or its tokenizer took part.';
COMMENT ON COLUMN scores.dtype IS 'Of the parameters while they ran; auto for the checkpoint''s own.';
