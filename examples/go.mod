module github.com/consignq/consign/examples

go 1.26.0

replace github.com/consignq/consign => ..
