package consign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// exhibit is what somebody needs to check a receipt years later: no queue, no
// network, no trust in who shows it. The keys have to come by another way.
type exhibit struct {
	Receipt, Payload, Result []byte
	Job                      consign.JobID
	WorkerKey, QueueKey      string
}

// check is all that it takes.
func (x exhibit) check() (consign.Record, error) {
	var receipt consign.Receipt
	if err := json.Unmarshal(x.Receipt, &receipt); err != nil {
		return consign.Record{}, err
	}
	var worker, queue sign.PublicKey
	if err := worker.UnmarshalText([]byte(x.WorkerKey)); err != nil {
		return consign.Record{}, err
	}
	if err := queue.UnmarshalText([]byte(x.QueueKey)); err != nil {
		return consign.Record{}, err
	}
	record, _, err := receipt.Verify(consign.Exchange{Worker: worker, Queue: queue, Job: x.Job, Payload: x.Payload, Result: x.Result})
	return record, err
}

// A receipt is verified from its JSON, the keys, and what was sent and came
// back.
func ExampleReceipt_Verify() {
	x := obtain()
	record, err := x.check()
	fmt.Println(record.Kind, record.Seq, err)

	forged := x
	forged.Result = []byte("CONSIGN IT!")
	_, err = forged.check()
	fmt.Println(err)

	stranger := x
	stranger.WorkerKey = sign.Generate().Public().String()
	_, err = stranger.check()
	fmt.Println(err)

	edited := x
	edited.Receipt = bytes.Replace(x.Receipt, []byte(`"record":{"payload":"e`), []byte(`"record":{"payload":"f`), 1)
	_, err = edited.check()
	fmt.Println(err)
	// Output:
	// TASK 1 <nil>
	// consign: bad receipt: record.result_hash is not the SHA-256 of the result
	// consign: bad receipt: record.signatures does not verify: sign: bad signature: it was not made by this ed25519 key over these bytes
	// consign: bad receipt: record.signatures does not verify: sign: bad signature: it was not made by this ed25519 key over these bytes
}

// obtain has a job run, and keeps what proves it.
func obtain() exhibit {
	owner, hand := sign.Generate(), sign.Generate()
	queue, stop := exampleQueue(consign.Config{Identity: owner})
	defer stop()
	defer exampleWorker(queue, hand, 4, capitals)()
	submitter := queue.Submitter("acme")
	job := waitFor(submitter, submitText(submitter, "consign it"))
	receipt, err := submitter.Receipt(context.Background(), job.ID)
	if err != nil {
		log.Fatal(err)
	}
	text, err := json.Marshal(receipt)
	if err != nil {
		log.Fatal(err)
	}
	return exhibit{Receipt: text, Payload: []byte("consign it"), Result: job.Result, Job: job.ID,
		WorkerKey: hand.Public().String(), QueueKey: owner.Public().String()}
}
