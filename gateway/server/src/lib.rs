//! The gateway's gRPC and HTTP surfaces and the one pipeline behind them.
