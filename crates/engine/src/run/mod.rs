//! One turn of the loop: stages, gates, approval, delivery.
