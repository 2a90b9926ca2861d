module github.com/consignq/consign/bench

go 1.26.0

replace github.com/consignq/consign => ..
