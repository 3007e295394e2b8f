"""The folder of a run: configuration, checkpoint, metrics, posterior draws, evidence and figures."""

from ppl_vae.runs.checkpoint import check_numbers, read_checkpoint, write_checkpoint
from ppl_vae.runs.columns import write_table
from ppl_vae.runs.config import (
    NamedProgram,
    build_program,
    check_trust,
    file_and_class,
    known_models,
    program_class,
    read_config,
)
from ppl_vae.runs.evidence import write_evidence
from ppl_vae.runs.fingerprints import (
    Fingerprints,
    changed_data,
    changed_options,
    changed_sources,
    fingerprint_data,
)
from ppl_vae.runs.folder import FORMATS, Run, write_json
from ppl_vae.runs.posterior import write_posterior
from ppl_vae.runs.shards import ShardFile, check_complete, digest_file, find_shards, read_facts, read_shard, write_shard
from ppl_vae.runs.sources import sources_of
from ppl_vae.runs.tables import read_tables, write_tables

__all__ = [
    "FORMATS",
    "Fingerprints",
    "NamedProgram",
    "Run",
    "ShardFile",
    "build_program",
    "changed_data",
    "changed_options",
    "changed_sources",
    "check_complete",
    "check_numbers",
    "check_trust",
    "digest_file",
    "file_and_class",
    "find_shards",
    "fingerprint_data",
    "known_models",
    "program_class",
    "read_checkpoint",
    "read_config",
    "read_facts",
    "read_shard",
    "read_tables",
    "sources_of",
    "write_checkpoint",
    "write_evidence",
    "write_json",
    "write_posterior",
    "write_shard",
    "write_table",
    "write_tables",
]
