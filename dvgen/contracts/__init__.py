"""The rules that a component keeps, as plain check functions, and a hypothesis shell to run them in pytest. Public."""
