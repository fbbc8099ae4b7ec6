//! Nothing: the tests are what it is for.
