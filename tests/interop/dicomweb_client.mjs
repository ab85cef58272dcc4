// Runs every method of the npm dicomweb-client against an archive; writes what each one gave.
// Usage: node dicomweb_client.mjs BASE_URL STUDY SERIES INSTANCE RESULTS FILE...
// The files are stored first; the named instance is then searched for and retrieved.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
// The client is made for browsers.
globalThis.XMLHttpRequest = require('xhr2').XMLHttpRequest;
const { api } = require('dicomweb-client');

const [, , url, study, series, instance, written, ...files] = process.argv;
const instanceOf = { studyInstanceUID: study, seriesInstanceUID: series, sopInstanceUID: instance };
const results = {};

function told(value) {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    const bytes = Buffer.from(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
    return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'),
             head: bytes.subarray(0, 132).toString('hex') };
  }
  if (Array.isArray(value)) return value.map(told);
  return value;
}

async function step(name, act) {
  try {
    results[name] = { gave: told(await act()) };
  } catch (error) {
    results[name] = { failed: `${error.status ?? ''} ${error.message ?? error}` };
  }
  return results[name].gave;
}

for (const [mode, singlepart] of [['multipart', undefined], ['singlepart', true]]) {
  const client = new api.DICOMwebClient({ url, singlepart, verbose: false });
  const named = name => `${mode}: ${name}`;
  if (mode === 'multipart') {
    const datasets = files.map(file => {
      const bytes = readFileSync(file);
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    });
    await step('storeInstances', () => client.storeInstances({ datasets }));
    await step('storeInstances of a study', () =>
      client.storeInstances({ datasets: datasets.slice(0, 1), studyInstanceUID: study }));
  }
  await step(named('searchForStudies'), () => client.searchForStudies());
  await step(named('searchForStudies by name'), () =>
    client.searchForStudies({ queryParams: { PatientName: 'comp*', limit: 1 } }));
  await step(named('searchForSeries'), () => client.searchForSeries({ studyInstanceUID: study }));
  await step(named('searchForSeries of all'), () =>
    client.searchForSeries({ queryParams: { Modality: 'CT' } }));
  await step(named('searchForInstances'), () =>
    client.searchForInstances({ studyInstanceUID: study, seriesInstanceUID: series }));
  await step(named('retrieveStudyMetadata'), () =>
    client.retrieveStudyMetadata({ studyInstanceUID: study }));
  await step(named('retrieveSeriesMetadata'), () =>
    client.retrieveSeriesMetadata({ studyInstanceUID: study, seriesInstanceUID: series }));
  const metadata = await step(named('retrieveInstanceMetadata'), () =>
    client.retrieveInstanceMetadata(instanceOf));
  await step(named('retrieveInstance'), () => client.retrieveInstance(instanceOf));
  await step(named('retrieveSeries'), () =>
    client.retrieveSeries({ studyInstanceUID: study, seriesInstanceUID: series }));
  await step(named('retrieveStudy'), () => client.retrieveStudy({ studyInstanceUID: study }));
  const frames = { ...instanceOf, frameNumbers: [1] };
  await step(named('retrieveInstanceFrames'), () => client.retrieveInstanceFrames(frames));
  for (const [syntax, mediaType] of [
    ['*', 'application/octet-stream'], ['1.2.840.10008.1.2.1', 'application/octet-stream'],
    ['1.2.840.10008.1.2.4.80', 'image/jls'], ['1.2.840.10008.1.2.4.90', 'image/jp2'],
    ['1.2.840.10008.1.2.5', 'image/x-dicom-rle'],
  ]) {
    await step(named(`retrieveInstanceFrames as ${syntax}`), () =>
      client.retrieveInstanceFrames({
        ...frames, mediaTypes: [{ mediaType, transferSyntaxUID: syntax }] }));
  }
  for (const mediaType of ['image/png', 'image/jpeg']) {
    const rendered = { mediaTypes: [{ mediaType }] };
    await step(named(`retrieveInstanceRendered ${mediaType}`), () =>
      client.retrieveInstanceRendered({ ...instanceOf, ...rendered }));
    await step(named(`retrieveInstanceThumbnail ${mediaType}`), () =>
      client.retrieveInstanceThumbnail({ ...instanceOf, ...rendered }));
    await step(named(`retrieveInstanceFramesRendered ${mediaType}`), () =>
      client.retrieveInstanceFramesRendered({ ...frames, ...rendered }));
    await step(named(`retrieveInstanceFramesThumbnail ${mediaType}`), () =>
      client.retrieveInstanceFramesThumbnail({ ...frames, ...rendered }));
  }
  await step(named('retrieveInstanceRendered windowed'), () =>
    client.retrieveInstanceRendered({
      ...instanceOf, mediaTypes: [{ mediaType: 'image/png' }], queryParams: {
        window: '40,400,linear', viewport: '64,64' } }));
  const BulkDataURI = metadata?.[0]?.['7FE00010']?.BulkDataURI
    ?? metadata?.['7FE00010']?.BulkDataURI;
  await step(named('retrieveBulkData'), () => client.retrieveBulkData({ BulkDataURI }));
  results[named('buildInstanceWadoURIUrl')] = { gave: client.buildInstanceWadoURIUrl(instanceOf) };
}
// The client writes to standard output as it likes.
writeFileSync(written, JSON.stringify(results));
