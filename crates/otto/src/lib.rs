//! The public API of Otto: load agents, wire the parts, invoke.
