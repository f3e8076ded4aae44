//! How Otto runs: AgentServer, effects, tool bus, cost tracker, supervision.
