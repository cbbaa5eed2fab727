"""The paper's physics as pure functions on arrays with a leading axis E."""
