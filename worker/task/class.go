package task

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"unicode"
)

// Engine names this executor in a worker's record. Its number rises whenever a
// change here changes an output; a test holds it to that.
const Engine = "consign-task/1"

// Class returns the class within which results are compared: workers of one
// class give the same bytes. It is [Engine], the version of Go's Unicode tables,
// and a fingerprint of what this build really answers to a few built-in
// payloads: the libraries' versions are the final program's to choose, so the
// name alone would promise too much.
func Class() string { return class() }

var class = sync.OnceValue(func() string {
	h := sha256.New()
	for _, payload := range probes {
		result, err := Run(context.Background(), []byte(payload))
		if err != nil {
			panic("task: built-in probe: " + err.Error()) // a test runs it
		}
		h.Write(result)
		h.Write([]byte{'\n'})
	}
	return Engine + " unicode/" + unicode.Version + " " + hex.EncodeToString(h.Sum(nil)[:6])
})

// probes touch every library whose version may differ between two programs.
var probes = []string{
	`{"task":"summarize","sentences":2,"text":"Dr. Ada Lovelace wrote programs for an engine. The engine was never built. Programs for the engine used punched cards, as looms did. Looms of that time wove patterns from punched cards!"}`,
	`{"task":"summarize","sentences":1,"text":"Die Häuser der Stadt sind alt. Viele alte Häuser der Stadt wurden erneuert. Der Fluss ist breit."}`,
	`{"task":"summarize","sentences":1,"text":"北京是中国的首都。首都北京有很多古老的建筑。天气很冷。"}`,
	`{"task":"classify","text":"The staff was VERY kind, but the room wasn't good :( I won't come back!"}`,
	`{"task":"classify","by":"language","text":"Η γάτα κοιμάται στην καρέκλα και ο σκύλος στο χαλί."}`,
	`{"task":"classify","labels":{"sport":["match","goal"],"politics":["vote","law"]},"text":"They voted on the new law."}`,
	`{"task":"extract","text":"On 3 March 2026 ada@example.org paid $1,234.50 at https://example.org/a_(b). Call +44 20 7946 0958."}`,
	`{"task":"extract","schema":{"type":"object","required":["when","iban"],"properties":{"when":{"type":"string","format":"date"},"total":{"type":"number","minimum":9},"iban":{"type":"string"}}},"text":"When: 3. März 2026\nTotal: 5"}`,
}
