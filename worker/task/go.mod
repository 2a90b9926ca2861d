module github.com/consignq/consign/worker/task

go 1.26.0

require github.com/consignq/consign v0.0.0

replace github.com/consignq/consign => ../..
