module github.com/consignq/consign

go 1.26.0

require github.com/cenkalti/backoff/v4 v4.3.0

require pgregory.net/rapid v1.3.0
