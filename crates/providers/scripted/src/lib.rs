//! A model without a network: a loopback server of the Anthropic protocol that plays scripts.
