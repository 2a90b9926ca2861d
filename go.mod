module github.com/consignq/consign

go 1.26.0
