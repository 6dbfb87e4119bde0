package main

// A GRU's sums over the input are in V0 to V11, gates z, r, h, and those over
// the hidden state in the registers from these on.
var gruRecurrent = [gru]int{16, 20, 12}

// gruSums computes the sums over the hidden state and adds what addGRU adds.
func (a *assembler) gruSums(p product) {
	if p == float32Product {
		for _, u := range gruRecurrent {
			a.load4(w, u)
		}
		a.floatProduct(func() {
			for _, u := range gruRecurrent {
				a.load4(w, 24)
				for i := range 4 {
					a.fmla(u+i, 24+i, 31)
				}
			}
		})
		a.addGRU()
		return
	}
	a.int8Sums(p, "recurrent")
	for g := range gru {
		a.load4(w, 16)
		for i := range 4 {
			a.scvtf(4*g+i, 4*g+i)
			a.fmul(4*g+i, 4*g+i, 16+i)
		}
	}
	for g := range gru {
		a.load4(w, 16)
		for i := range 4 {
			if g < gru-1 {
				a.fadd(4*g+i, 4*g+i, 16+i)
			} else { // where the candidate's is expected
				a.fadd(12+i, 4*g+i, 16+i)
			}
		}
	}
	for g := range gru {
		if g == gru-1 {
			a.load4(spill, 4*g)
			break
		}
		a.load4(spill, 16)
		for i := range 4 {
			a.fadd(4*g+i, 4*g+i, 16+i)
		}
	}
}

// addGRU adds the two sums of z and r.
func (a *assembler) addGRU() {
	for g, u := range gruRecurrent[:gru-1] {
		for i := range 4 {
			a.fadd(4*g+i, 4*g+i, u+i)
		}
	}
}

// activateGRU turns the sums of z in V0, r in V4, and the candidate's in V8 and
// V12 into h in V12 to V15.
func (a *assembler) activateGRU() {
	const z, r, x, u = 0, 4, 8, 12
	a.sigmoid(z)
	a.sigmoid(r)
	for i := range 4 {
		a.fmul(u+i, r+i, u+i)
		a.fadd(u+i, x+i, u+i)
	}
	a.tanh(u)
	a.constant(oneAt, 28)
	a.p("MOVD %s, %s", hidden, tmp)
	a.load4(tmp, 16)
	for i := range 4 {
		a.fsub(r+i, 28, z+i)
		a.fmul(r+i, r+i, u+i)
		a.fmul(z+i, z+i, 16+i)
		a.fadd(u+i, z+i, r+i)
	}
}
