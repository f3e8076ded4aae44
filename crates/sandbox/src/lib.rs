//! What a tool may touch: the trust boundary and the only unsafe code.
