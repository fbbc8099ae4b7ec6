//! Reclamation between processes.

#![cfg_attr(docsrs, feature(doc_cfg))]
