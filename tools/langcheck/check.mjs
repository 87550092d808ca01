// GitHub's own validator over the files named on the command line: prints `file:line:column: message`, exits 1 on any.
// The language service's modules import JSON without attributes, which Node refuses: hence the bundle (package.json).
import fs from 'node:fs';
import { validate } from '@actions/languageservice';
import { TextDocument } from 'vscode-languageserver-textdocument';

// Our own called workflows, by `$/path` or by their public name, are read from this tree.
const fileProvider = {
  async getFileContent({ owner, repository, path }) {
    if (owner && `${owner}/${repository}` !== 'gatehouse-ci/gatehouse') throw new Error('not ours');
    return { name: path, content: fs.readFileSync(path, 'utf8') };
  },
};

let found = 0;
for (const file of process.argv.slice(2)) {
  const document = TextDocument.create(`file:///${file}`, 'yaml', 1, fs.readFileSync(file, 'utf8'));
  for (const { range, message } of await validate(document, { fileProvider })) {
    found += 1;
    console.log(`${file}:${range.start.line + 1}:${range.start.character + 1}: ${message}`);
  }
}
process.exit(found ? 1 : 0);
