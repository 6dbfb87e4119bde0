package store

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// A note is a line of text in a file beside the database, with its checksum:
// what must not be lost with it, and changes too often for a transaction.

func (s *Store) writeNote(name, text string) error {
	if s.readOnly {
		return ErrReadOnly
	}
	return s.disk.replace(s.path(name), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", text, noteSum(name, text))
		return err
	})
}

// readNote returns "" for a note that is not there, or not whole.
func (s *Store) readNote(name string) string {
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return ""
	}
	line := strings.TrimSpace(string(b))
	end := strings.LastIndexByte(line, ' ')
	if end < 0 || line[end+1:] != noteSum(name, line[:end]) {
		return ""
	}
	return line[:end]
}

func noteSum(name, text string) string {
	return hex.EncodeToString(sum([]byte(name), nil, []byte(text)))
}

const budgetName = "budget"

// SaveBudget stores what was spent of a budget, one line of the caller's.
func (s *Store) SaveBudget(line string) error {
	if err := s.writeNote(budgetName, line); err != nil {
		return fmt.Errorf("store the byte budget: %w", err)
	}
	return nil
}

// Budget returns what SaveBudget stored last, "" when that is lost.
func (s *Store) Budget() string { return s.readNote(budgetName) }
