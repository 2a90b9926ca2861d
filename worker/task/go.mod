module github.com/consignq/consign/worker/task

go 1.26.0

require (
	github.com/abadojack/whatlanggo v1.0.1
	github.com/blevesearch/snowballstem v0.9.0
	github.com/clipperhouse/uax29/v2 v2.7.0
	github.com/consignq/consign v0.0.0-00010101000000-000000000000
	github.com/jonreiter/govader v0.0.0-20250429093935-f6505c8d03cc
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	mvdan.cc/xurls/v2 v2.6.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/exp v0.0.0-20250408133849-7e4ce0ab07d0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	gonum.org/v1/gonum v0.8.2 // indirect
)

replace github.com/consignq/consign => ../..
