//! The Anthropic Messages protocol: codec, client and price table.
