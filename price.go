package consign

import "fmt"

// Price is an amount of credit in millionths of a unit (of a dollar, say).
type Price int64

// String prints at least three decimals, as in "$0.010" (seed 001).
func (p Price) String() string {
	sign := ""
	if p < 0 {
		sign, p = "-", -p
	}
	s := fmt.Sprintf("%s$%d.%06d", sign, p/1_000_000, p%1_000_000)
	for n := 0; n < 3 && s[len(s)-1] == '0'; n++ {
		s = s[:len(s)-1]
	}
	return s
}

// Policy is what the submitter prefers: a fast answer or a cheap one.
type Policy uint8

// The policies. PolicyAuto resolves to fast for inference and cheap for tasks
// (seed 001).
const (
	PolicyAuto Policy = iota
	PolicyFast
	PolicyCheap
)

var policyNames = [...]string{"AUTO", "FAST", "CHEAP"}

func (p Policy) String() string { return policyNames[p] }

// PriceRow is one line of a price table.
type PriceRow struct {
	Kind   string // "" matches every kind
	Policy Policy // PolicyAuto matches both
	Tier   Tier   // 0 matches every tier
	Price  Price
}

// PriceTable lists prices; the first row that matches is the price, and a job
// that none matches is free.
type PriceTable []PriceRow

// Price returns what a job costs.
func (t PriceTable) Price(kind string, policy Policy, tier Tier) Price {
	for _, row := range t {
		if (row.Kind == "" || row.Kind == kind) && (row.Policy == PolicyAuto || row.Policy == policy) && (row.Tier == 0 || row.Tier == tier) {
			return row.Price
		}
	}
	return 0
}

func (t PriceTable) validate() error {
	for i, row := range t {
		if row.Price < 0 {
			return fieldError(fmt.Sprintf("prices[%d].price", i), "is negative", "give zero or more")
		}
	}
	return nil
}
