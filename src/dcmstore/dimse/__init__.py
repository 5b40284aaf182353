"""PS3.7 messages: PDV fragments -> command sets and data set fragments. Pure."""
