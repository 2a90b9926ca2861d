package task_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/consignq/consign/worker/task"
)

func ExampleRun() {
	result, err := task.Run(context.Background(), []byte(`{
		"task": "classify",
		"text": "The striker scored two goals in the final match.",
		"labels": {"sport": ["match", "goal"], "politics": ["vote", "law"]}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(result))
	// Output:
	// {"task":"classify","by":"topic","label":"sport","scores":{"politics":0,"sport":816},"evidence":2,"language":"en"}
}

func ExampleRun_summarize() {
	result, err := task.Run(context.Background(), []byte(`{
		"task": "summarize",
		"sentences": 1,
		"text": "Leases end. A worker renews its lease with a heartbeat. A lost lease sends the job to another worker. Tea is served at five."
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(result))
	// Output:
	// {"task":"summarize","summary":"A worker renews its lease with a heartbeat.","sentences":[{"text":"A worker renews its lease with a heartbeat.","start":12,"end":55,"score":1000}],"language":"en","of":4}
}

func ExampleRun_extract() {
	result, err := task.Run(context.Background(), []byte(`{
		"task": "extract",
		"text": "Invoice date: 3 March 2026\nTotal: $1,234.50",
		"schema": {"type": "object", "required": ["iban", "total"], "properties": {
			"invoice_date": {"type": "string", "format": "date"},
			"total": {"type": "number"},
			"iban": {"type": "string"}
		}}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(result))
	// Output:
	// {"task":"extract","language":"und","valid":false,"missing":["/iban"],"data":{"invoice_date":"2026-03-03","total":1234.50},"evidence":[{"field":"/invoice_date","by":"line","start":14,"end":26},{"field":"/total","by":"line","start":34,"end":43}]}
}

// A payload's own fault is never worth a retry.
func ExamplePayloadError() {
	_, err := task.Run(context.Background(), []byte(`{"task":"summarize","text":"Hello.","sentense":2}`))
	var p *task.PayloadError
	fmt.Println(errors.As(err, &p), err)
	// Output:
	// true task: sentense is not a field of summarize: remove it, or check its spelling
}
