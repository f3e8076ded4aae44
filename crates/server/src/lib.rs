//! Otto over HTTP.
