//! What an agent can do: the base tools, run inside the boundary.
