package sign_test

import (
	"fmt"
	"log"

	"github.com/consignq/consign/crypto/sign"
)

// An envelope says what type its payload is of, and the signature covers both.
func Example() {
	worker := sign.Generate() // LoadOrCreate keeps it in a file
	envelope, err := sign.SignEnvelope(worker, "text/plain", []byte("done"))
	if err != nil {
		log.Fatal(err)
	}

	// Whoever reads it has the key from elsewhere, and says which type is meant.
	payload, err := envelope.Verify("text/plain", worker.Public())
	fmt.Printf("%s, %v\n", payload, err)
	_, err = envelope.Verify("text/html", worker.Public())
	fmt.Println(err != nil)
	// Output:
	// done, <nil>
	// true
}
