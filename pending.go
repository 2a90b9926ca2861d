package consign

// Verification says how far a result is to be trusted.
type Verification string

// StandingState is what the queue believes of a worker.
type StandingState string

// Explanation says why a job is in its state.
type Explanation struct{}
