// Package train makes models from data: it reads a CSV file, fits the scaler
// and the network on the training rows, quantizes the result to int8 and
// evaluates both beside naive baselines and a linear map on the same rows.
//
// The int8 figures come from the same predictor code, in raw sensor units, that
// runs on a device, so they are bit for bit what a device will answer.
//
// What a later [Evaluate] needs beyond the model itself (the names of the group
// and time columns, the cap, the split, the fitted baselines) travels in the
// [Setup] of the report, which the registry keeps with the version.
package train
