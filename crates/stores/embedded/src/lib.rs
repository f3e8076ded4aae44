//! The embedded store: SQLite for journal, ledger and usage, files for artifacts.
