//! Start-up code that libraries never see: configuration, telemetry, listeners, health, drain.
