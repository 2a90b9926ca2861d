package task

import (
	"context"
	"fmt"
	"testing"
)

// Time per byte must not grow with the text: compare the MB/s column.
func BenchmarkRun(b *testing.B) {
	for _, job := range jobs {
		for _, size := range []int{1 << 10, 8 << 10, 32 << 10, 128 << 10} {
			payload := []byte(payloadOf(job.task, longText(size), job.options))
			b.Run(fmt.Sprintf("%s%.10s/%dK", job.task, job.options, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Run(context.Background(), payload); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
