"""Public fakes for tests of this library and of what builds on it. Each says which real failure it models.

* `deltavcs.testing.storage.FaultyStorage`: a disk that fails at one chosen change.
* `deltavcs.testing.checkpoints`: small checkpoints of any dtype and layout, and fine-tunes of them.
* `deltavcs.testing.invariants.check_repository`: what must hold after any crash.
"""
