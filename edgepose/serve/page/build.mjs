// Writes ../page.html: index.html with main.js, three.js and its licence in it. npm install && npm run build
import {build} from 'esbuild';
import {createHash} from 'node:crypto';
import {readFileSync, writeFileSync} from 'node:fs';

// The same files, in the same order, as in tests/test_serve_page.py.
const SOURCES = ['package.json', 'index.html', 'main.js', 'messages.js', 'scene.js', 'panel.js'];

const {outputFiles} = await build({entryPoints: ['main.js'], bundle: true, minify: true, format: 'iife', write: false,
                                   legalComments: 'none', target: 'es2020'});
const script = outputFiles[0].text.replaceAll('</script', '<\\/script');
const licence = readFileSync('node_modules/three/LICENSE', 'utf8').trim();
const digest = createHash('sha256').update(SOURCES.map(name => readFileSync(name)).join('')).digest('hex');
const page = readFileSync('index.html', 'utf8')
  .replace('<!-- notes -->', () => `<!-- Built from edgepose/serve/page, sources ${digest}.\n\nthree.js:\n${licence}\n-->`)
  .replace('<!-- script -->', () => `<script>${script}</script>`);
writeFileSync('../page.html', page);
