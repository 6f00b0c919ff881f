"""The documents that scripts read: their keys are pinned here."""

import pytest

COMMITTED = {
    "commit",
    "name",
    "kind",
    "base",
    "n_tensors",
    "raw_bytes",
    "stored_bytes",
    "overflowed",
    "unchanged",
    "nonfinite",
}

FOUND = {
    "left_out",
    "links",
    "beside",
    "unnamed",
    "overlaid",
    "unindexed",
    "incomplete",
    "unmatched",
    "whole_files",
}

SHAPES = {
    ("log",): {
        "commits": {"commit", "kind", "names", "message", "author", "time", "task", "parents", "scores"}
    },
    ("log", "--graph", "-n", "2"): {"commits": None},
    ("show", "chat"): {
        "commit", "kind", "names", "message", "author", "time", "task", "recipe", "metadata", "source",
        "parents", "manifest", "n_tensors", "n_files", "raw_bytes", "stored_bytes", "changed_share", "l2",
        "tensors", "files", "scores", "adapter_type", "modules",
    },
    ("diff", "v1", "chat"): {
        "a", "b", "n_common", "n_identical", "elements", "changed", "l2", "relative_l2", "cosine", "tensors",
        "only_in_a", "only_in_b", "files_changed", "files_only_in_a", "files_only_in_b", "quantised",
        "names_differ",
        "modules", "adapter_kinds",
    },
    ("lineage", "v2+chat"): {"root", "direction", "nodes", "edges", "n_previous"},
    ("lineage", "v1", "--down"): {"root", "direction", "nodes", "edges", "n_previous"},
    ("sql", "SELECT 1 AS x"): {"columns": {"name", "type"}, "rows": None},
    ("branch",): {"branches": {"name", "kind", "commit", "commit_kind", "message", "time"}},
    ("tag",): {"tags": None},
    ("ls",): {"names": {"name", "kind", "commit", "commit_kind", "message", "time"}},
    ("ls", "chat"): {"revision": None, "files": {"path", "size", "n_tensors"}, "tensors": None},
    ("du",): {
        "commits": {"commit", "names", "raw_bytes", "unique_bytes", "shared_bytes", "n_blobs"},
        "totals": None,
    },
    ("fsck",): {"ok", "full", "problems", "counts"},
    ("gc", "-n"): {"dry_run", "packs", "objects", "indexes", "n_bytes", "n_idle_bytes"},
    ("index", "rebuild"): {"n_commits", "pack_indexes"},
    ("doctor", "--no-device"): {"ok": None, "findings": {"topic", "value", "ok", "hint"}},
    ("reflog",): {"moves": {"ref", "old", "new", "author", "time", "message"}},
    ("checkout", "chat", "-o", "out"): {
        "path", "commit", "recipe", "n_files", "n_tensors", "n_bytes", "changed", "kept", "removed", "stayed",
        "revision", "dequantized", "overflowed", "notes",
    },
    ("init", "other"): {"path"},
    ("transfer", "--from", "chat", "--to", "v2", "--dry-run"): {
        "dry_run": None,
        "transfers": {
            "delta", "source", "target", "name", "scale", "recipe", "backport", "compatibility", "geometry",
            "config", "config_differences", "side_files", "connectivity",
            "dequantized", "adapter", "folded", "recorded",
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("args", SHAPES, ids=" ".join)
def test_shape(repo, dvx, args):
    found, want = dvx.json(*args), SHAPES[args]
    assert set(found) == set(want)
    if isinstance(want, dict):
        for key, fields in want.items():
            if fields is not None:
                assert set(found[key][0]) == fields


def test_writing_commands(folder, dvx, models):
    dvx("init")
    imported = dvx.json("import", models.v1)
    assert set(imported) == COMMITTED | FOUND | {"source", "converted", "copy_of"}
    committed = dvx.json("commit", models.chat)
    assert set(committed) == COMMITTED | FOUND | {
        "adapter_notes", "adapter_type", "base_is_unrelated", "changed_share", "converted", "copy_of",
        "missing_tensors", "names_differ", "new_tensors", "quantised_base",
    }  # fmt: skip
    assert set(committed["base"]) == {
        "commit", "distance", "how", "init", "name", "named", "nearer", "passed_over", "runner_up",
    }  # fmt: skip
    assert committed["base"]["how"] == "inferred"
    assert committed["base"]["commit"] == imported["commit"]
    status = dvx.json("status", str(models.chat), "--base", "chat")
    assert status["clean"] is True
    made = dvx.json("branch", "b", "chat")["branch"]
    assert made["commit"] == committed["commit"]
    assert dvx.json("tag", "t", "chat")["tag"]["kind"] == "tag"


def test_every_command_is_here(dvx):
    import click

    from dvx.app import cli

    tested = {args[0] for args in SHAPES} | {"import", "commit", "status"}
    names = set(cli.list_commands(click.Context(cli)))
    issue2 = names - {"merge", "rank", "mashup", "recycle", "connectivity", "task"}
    assert issue2 <= tested


def test_numbers_that_json_lacks_are_null(repo, dvx):
    rows = dvx.json("sql", "SELECT 'nan'::DOUBLE, 'inf'::DOUBLE, 1.5::DOUBLE, 2::HUGEINT, DATE '2026-01-02'")[
        "rows"
    ]
    assert rows == [[None, None, 1.5, 2, "2026-01-02"]]


def test_times_are_iso_8601(repo, dvx):
    assert dvx.json("show", "v1")["time"].endswith("Z")
    assert dvx.json("log")["commits"][0]["time"].endswith("Z")
