//go:build race

package task

const underRace = true
