// Package dataset turns a CSV file into windows of sensor rows: it reads and
// checks the columns, cuts the rows into training, validation and test parts,
// fits the scaler on the training rows and serves scaled windows to the trainer.
//
// The values stay in raw sensor units, float32, until a [Source] scales them
// with the very [kernel.Scaler] that travels in the model, so training,
// evaluation and the device see the same numbers. A decimal is parsed to
// float64 and then rounded to float32, everywhere.
//
// Words: a row is one line of the file; a group is one machine or one run, and
// no window ever crosses two; a part is what a split gives to training,
// validation or test.
package dataset
