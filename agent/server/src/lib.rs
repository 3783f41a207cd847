//! The client's wire: JSON-RPC over stdio, WebSocket and unix sockets, and the gRPC session API.
